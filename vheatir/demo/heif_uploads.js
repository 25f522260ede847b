// HEIC uploads from browsers that do not recognise HEIC.
// Gradio's image upload accepts only files with an image MIME type, and browsers without HEIC
// support leave it empty: set it, for chosen and dropped files.
(() => {
  const types = {heic: "image/heic", heif: "image/heif", hif: "image/heif", avif: "image/avif"};
  const typed = (files) => {
    const out = new DataTransfer();
    for (const file of files) {
      const type = types[file.name.split(".").pop().toLowerCase()];
      out.items.add(type && !file.type ? new File([file], file.name, {type}) : file);
    }
    return out;
  };
  const nameless = (files) => Array.from(files || []).some((file) => !file.type);
  document.addEventListener("change", (event) => {
    const input = event.target;
    if (input.type === "file" && nameless(input.files)) input.files = typed(input.files).files;
  }, true);
  document.addEventListener("drop", (event) => {
    if (!event.dataTransfer || !nameless(event.dataTransfer.files)) return;
    Object.defineProperty(event, "dataTransfer", {value: typed(event.dataTransfer.files)});
  }, true);
  document.addEventListener("click", () => {
    for (const input of document.querySelectorAll('input[type=file][accept="image/*"]'))
      input.accept = "image/*,.heic,.heif,.hif,.avif";
  }, true);
})();
