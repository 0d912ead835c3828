// What a caught value says for itself.

/** The message of an error; anything else that was thrown, as text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Why a file that somebody has named cannot be read, and what would be right. */
export function whyUnreadable(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "no such file; name one that exists";
  if (error instanceof Deno.errors.PermissionDenied) {
    return "cannot be read: permission denied; make it readable for the user that runs pushd";
  }
  return messageOf(error);
}
