// Connection strings of MongoDB: made, named without their secrets, and kept out of what is said.

/** What a connection string is made of where none is configured. */
export interface MongoAddress {
  /** `host:port`. */
  readonly addr: string;
  /** Empty where the server asks for none. */
  readonly username: string;
  readonly password: string;
}

/** The connection string for one server. Other members of its replica set are found through it. */
export function mongoUrl({ addr, username, password }: MongoAddress): string {
  if (username === "") return `mongodb://${addr}/`;
  return `mongodb://${encodeURIComponent(username)}:${encodeURIComponent(password)}@${addr}/`;
}

/** The hosts of a connection string, without scheme, user, password and options. */
export function mongoHosts(url: string): string {
  const hosts = url.slice(hostsStart(url)).split(/[/?]/, 1)[0];
  return hosts === "" ? "an unnamed server" : hosts;
}

/**
 * A function that takes the secrets of a connection string out of a text: what stands before its `@`,
 * the password by itself, encoded or not, and the values of options that hold credentials.
 */
export function secretMask(url: string): (text: string) => string {
  const userinfo = url.slice(schemeEnd(url), Math.max(schemeEnd(url), hostsStart(url) - 1));
  const secrets = new Set([userinfo]);
  const colon = userinfo.indexOf(":");
  if (colon !== -1) addEncoded(secrets, userinfo.slice(colon + 1));
  const options = /[?&][^=&]*(?:password|authmechanismproperties)[^=&]*=([^&]*)/gi;
  for (const [, value] of url.matchAll(options)) addEncoded(secrets, value);
  secrets.delete("");
  // The longest first: one may be part of another.
  const ordered = [...secrets].sort((a, b) => b.length - a.length);
  return (text) => {
    let masked = text;
    for (const secret of ordered) masked = masked.replaceAll(secret, "***");
    return masked.replace(/(mongodb(?:\+srv)?:\/\/)[^@\s"]*@/g, "$1***@");
  };
}

function addEncoded(secrets: Set<string>, text: string): void {
  secrets.add(text);
  try {
    secrets.add(decodeURIComponent(text));
  } catch {
    // Not percent-encoded; then the driver refuses it.
  }
}

function schemeEnd(url: string): number {
  const at = url.indexOf("://");
  return at === -1 ? 0 : at + 3;
}

function hostsStart(url: string): number {
  return Math.max(schemeEnd(url), url.lastIndexOf("@") + 1);
}
