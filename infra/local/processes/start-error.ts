/** A failed start that the user can fix: one line that says what is wrong and what to do, without a stack. */
export class StartError extends Error {
  override readonly name = 'StartError'
}
