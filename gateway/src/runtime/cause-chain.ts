/** Returns an error, its cause, the cause of that, and so on. */
export function causeChain(thrown: unknown): Error[] {
  const chain: Error[] = []
  for (let error = thrown; error instanceof Error && !chain.includes(error); error = error.cause)
    chain.push(error)
  return chain
}
