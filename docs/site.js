// The search is a worker, and no browser starts one from a file on a disk. There a hidden frame does its work. As with
// a worker, each side has its own copy of what is said, and hears it later.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(address) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => {
        const copy = structuredClone(data);
        setTimeout(() => this.onmessage?.(new MessageEvent("message", { data: copy })));
      };
      const script = inside.document.createElement("script");
      script.src = address;
      script.onerror = (event) => this.onerror?.(event);
      this.ready = new Promise((resolve) => (script.onload = () => resolve(inside)));
      inside.document.body.append(script);
    }

    postMessage(data) {
      this.ready.then((inside) => {
        const copy = inside.structuredClone(data);
        setTimeout(() => inside.dispatchEvent(new MessageEvent("message", { data: copy })));
      });
    }

    terminate() {
      this.frame.remove();
    }
  };
}
