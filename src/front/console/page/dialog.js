// Dialogs: what is asked before something is changed, and what came of it.

import { Problem } from "./api.js";
import { fill, h, visible } from "./dom.js";

/** Whether a dialog is open. */
export function isOpen() {
  return document.querySelector("dialog[open]") !== null;
}

/**
 * A field with its label.
 * @param {string} name
 * @param {string} label
 * @param {Record<string, any>} properties of the input; with `options` it is a list to choose from
 */
export function field(name, label, properties = {}) {
  const { options, hint, ...rest } = properties;
  const id = `field-${name}`;
  const input = options
    ? h("select", { id, name, ...rest }, options.map((/** @type {string | [string, string]} */ of) => {
      const [value, text] = typeof of === "string" ? [of, of] : of;
      return h("option", { value, selected: value === rest.value }, text);
    }))
    : h("input", { id, name, autocomplete: "off", ...rest });
  if (options && rest.value) input.value = rest.value;
  return h("div", { class: "field" }, h("label", { for: id }, label), input, hint && h("small", null, hint));
}

/** The reason that every change needs. */
export function reasonField() {
  return field("reason", "Reason", { required: true, maxlength: 256, placeholder: "such as a ticket; whoever wonders reads it" });
}

/** What a form asks for. @param {HTMLFormElement} form */
export function valuesOf(form) {
  /** @type {Record<string, string>} */
  const values = {};
  for (const [name, value] of new FormData(form)) values[name] = String(value);
  return values;
}

/**
 * Asks, and runs what was asked for. The dialog stays open with what went wrong.
 * @param {object} question
 * @param {string} question.title
 * @param {Node} [question.about]
 * @param {HTMLElement[]} [question.fields]
 * @param {string} [question.action] the button's text; without it there is nothing to do but close
 * @param {boolean} [question.danger]
 * @param {(values: Record<string, string>) => Promise<Node | string | null>} [question.preview] what it would come to
 * @param {(values: Record<string, string>) => Promise<string | null>} [question.run] gives what is told of it
 */
export function ask({ title, about, fields = [], action, danger = false, preview, run }) {
  const trouble = h("p", { class: "note bad", role: "alert", hidden: true });
  const seen = h("div", { class: "preview", "aria-live": "polite" });
  const close = h("button", { type: "button", onclick: () => dialog.close() }, action ? "Cancel" : "Close");
  const submit = action && h("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
  const form = h("form", { method: "dialog", novalidate: false }, h("h2", { id: "dialog-title" }, title), about, fields, seen, trouble,
    h("div", { class: "actions" }, close, submit));
  const dialog = /** @type {HTMLDialogElement} */ (h("dialog", { "aria-labelledby": "dialog-title" }, form));
  const failed = (/** @type {unknown} */ error) => {
    trouble.hidden = false;
    const errors = error instanceof Problem ? error.errors : [];
    fill(trouble, errors.length > 0
      ? errors.map(({ place, what, hint }) => h("span", { class: "line" }, visible(`${place}: ${what}${hint ? ` (${hint})` : ""}`)))
      : visible(error instanceof Error ? error.message : String(error)));
  };
  let turn = 0;
  const look = async () => {
    if (!preview) return;
    const mine = ++turn;
    try {
      const answer = await preview(valuesOf(form));
      if (mine !== turn) return;
      fill(seen, answer);
      trouble.hidden = true;
    } catch (error) {
      if (mine !== turn) return;
      fill(seen);
      failed(error);
    }
  };
  let soon = 0;
  form.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(look, 250); });
  form.addEventListener("submit", async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    if (!run || !submit || submit.disabled) return;
    submit.disabled = true;
    // What it would come to is known soon enough.
    clearTimeout(soon);
    turn++;
    try {
      const done = await run(valuesOf(form));
      dialog.close();
      if (done) tell(done);
    } catch (error) {
      failed(error);
    } finally {
      submit.disabled = false;
    }
  });
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  const key = before?.dataset.key;
  dialog.addEventListener("close", () => {
    clearTimeout(soon);
    dialog.remove();
    // What was held back while it was open is read now.
    document.dispatchEvent(new Event("refresh"));
    // The view may have been filled anew meanwhile.
    const again = key ? [...document.querySelectorAll("[data-key]")].find((of) => /** @type {HTMLElement} */ (of).dataset.key === key) : before;
    /** @type {HTMLElement | null | undefined} */ (again)?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  (form.querySelector("input, select") ?? submit ?? close).focus();
  look();
}

/**
 * Says something that stays for a while.
 * @param {string} text
 */
export function tell(text) {
  const message = h("p", { class: "message" }, visible(text), h("button", { type: "button", "aria-label": "Close", onclick: () => message.remove() }, "×"));
  document.getElementById("messages")?.append(message);
  setTimeout(() => message.remove(), 12_000);
}
