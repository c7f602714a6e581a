// The address names what is shown: `#/tasks/ID?status=failure`. Everything an
// operator chose is in it, so that a link shows a colleague the same.

/** What an address names: a page, perhaps one thing on it, and filters. */
export function parse(hash) {
  const [path, search = ""] = splitOnce(hash.replace(/^#?\/?/, ""), "?");
  const [page, ...rest] = path.split("/");
  return {
    page: page || "overview",
    item: rest.length ? decode(rest.join("/")) : null,
    query: new URLSearchParams(search),
  };
}

/** The address of a page, as `href` has it. */
export function link(page, item = null, query = null) {
  const path = item === null ? page : `${page}/${encodeURIComponent(item)}`;
  const search = query ? new URLSearchParams(query).toString() : "";
  return `#/${page === "overview" ? "" : path}${search ? `?${search}` : ""}`;
}

/** Go there; `replace` leaves no step back to here. */
export function go(address, { replace = false } = {}) {
  if (address === location.hash) return;
  if (replace) {
    history.replaceState(null, "", address);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = address;
  }
}

/** Call it with what is to be shown, now and whenever that changes. */
export function route(call) {
  addEventListener("hashchange", () => call(parse(location.hash)));
  call(parse(location.hash));
}

function splitOnce(text, mark) {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
