/** Makes elements. All text goes in as text: what a game writes is never markup. */

const SVG = 'http://www.w3.org/2000/svg';

export const $ = (id) => document.getElementById(id);

export const element = (name, options = {}, ...children) => {
  const made = Object.assign(document.createElement(name), options);
  made.append(...children);
  return made;
};

/** A symbol of index.html. */
export const icon = (name, id = name) => {
  const svg = document.createElementNS(SVG, 'svg');
  const use = document.createElementNS(SVG, 'use');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', name);
  use.setAttribute('href', `#${id}`);
  svg.append(use);
  return svg;
};

/** Which round an element shows, for one listener of all. */
const shown = new WeakMap();

/** A button that opens the whole round. */
export const opener = (entry, text, label) => {
  const button = element('button', { type: 'button', className: 'whole', ariaLabel: label }, text);
  shown.set(button, entry);
  return button;
};

export const entryOf = (target) => shown.get(target.closest?.('.whole'));

/** Copies a text, and says so on the button. */
export const copy = async (button, text) => {
  const label = button.dataset.label ?? button.textContent;
  button.dataset.label = label;
  const done = await navigator.clipboard.writeText(text).then(() => true, () => copyBySelection(text));
  button.textContent = done ? 'Copied' : 'Not copied';
  setTimeout(() => {
    button.textContent = label;
  }, 1500);
};

/** On a page without TLS there is no clipboard but this one. */
const copyBySelection = (text) => {
  const area = element('textarea', { value: text, readOnly: true, className: 'aside' });
  (document.querySelector('dialog[open]') ?? document.body).append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  return done;
};
