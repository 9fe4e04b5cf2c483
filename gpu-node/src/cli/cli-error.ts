/** A failure with a message for the person at the terminal: shown as one line, never with a stack. */
export class CliError extends Error {
  override readonly name = 'CliError'
  /** Machine-readable cause, shown with `--json`: an error code of the API or one of the command's own. */
  readonly code: string

  constructor(code: string, message: string, options: { cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
  }
}
