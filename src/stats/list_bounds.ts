// What may be asked of the lists of channels and connections.

/** Bounds of the lists' parameters; for their handlers and for the document. */
export const LIST_BOUNDS = {
  /** Items of a list, unless told otherwise. */
  items: 100,
  maxItems: 10_000,
  maxClosedItems: 1000,
  maxPrefix: 255,
} as const;

/** Orders of `/s/conns`. */
export const CONNECTION_ORDERS = ["pending", "out", "in"] as const;
