/** The message of an error beside the form or part that it concerns; nothing without one. */
export function Problem({ message }: { message: string | undefined }) {
  if (message === undefined) return null
  return (
    <p class="harm" role="alert">
      <span aria-hidden="true">▲</span> {message}
    </p>
  )
}
