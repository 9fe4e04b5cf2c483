/** Rounds a value to a fraction of 1 in `parts`, so that responses are short; null stays null. */
export function rounded(value: number | null, parts: number): number | null {
  return value === null ? null : Math.round(value * parts) / parts
}
