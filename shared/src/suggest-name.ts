/**
 * Picks the name that a mistyped one was probably meant to be: the one at the smallest edit distance (Levenshtein).
 *
 * @returns `undefined` when every distance exceeds a third of the name's length, rounded up
 */
export function suggestName(mistyped: string, names: Iterable<string>): string | undefined {
  let nearest: { name: string; edits: number } | undefined
  for (const name of names) {
    const edits = editDistance(mistyped, name)
    if (edits <= Math.ceil(name.length / 3) && (!nearest || edits < nearest.edits)) nearest = { name, edits }
  }
  return nearest?.name
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}
