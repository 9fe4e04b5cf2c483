/** A failure of the start that the user can mend: shown as one line, what is wrong and what to do, without a stack. */
export class StartError extends Error {
  override readonly name = 'StartError'
}
