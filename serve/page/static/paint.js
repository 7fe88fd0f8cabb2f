// Values -> coloured canvases.

// Bright, since most of what they are laid over is black.
export const MASK = [255, 77, 208];
export const GREYS = Array.from({ length: 256 }, (_, value) => [value, value, value]);
export const MARKED = [null, MASK]; // what a mask's 0 and 1 are painted with

/** A canvas of the size of `values`; `palette` has the [r, g, b] of each, or null for none. */
export function paint(values, width, palette) {
  const canvas = new OffscreenCanvas(width, values.length / width);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  // One number for the four bytes of a pixel: a full list of images is painted many times.
  const words = new Uint32Array(pixels.data.buffer);
  const colours = Uint32Array.from(palette, (rgb) => {
    return rgb ? new Uint32Array(Uint8Array.of(...rgb, 255).buffer)[0] : 0;
  });
  for (let i = 0; i < values.length; i++) words[i] = colours[values[i]];
  context.putImageData(pixels, 0, 0);
  return canvas;
}
