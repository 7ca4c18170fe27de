// Browsers start no workers in pages that are opened as files, and search needs one. There, and only there, the shim that
// Material for MkDocs names is loaded; pages that a server gives fetch nothing.
if (location.protocol === "file:") document.write('<script src="https://unpkg.com/iframe-worker/shim"><\/script>')
