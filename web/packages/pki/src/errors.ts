/** Something about a key, a certificate or a file is not as it has to be. `message` says what. */
export class PkiError extends Error {
  override readonly name = "PkiError";
}
