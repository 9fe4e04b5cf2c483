/** The memory of a node for weight sets. */
export interface SetMemory<Name> {
  /** Bytes for all sets together. */
  budgetBytes: number
  /** Returns the bytes of a set, an estimate for one that was never loaded. */
  bytesOf: (name: Name) => number
}

/** Weight sets in the order in which they are needed, each once. */
export interface NeededSets<Name> {
  /** Sets that are held whatever memory they take. */
  required: readonly Name[]
  /** Sets that are held if they fit beside the required ones and those before them. */
  optional: readonly Name[]
}

/** Chooses the weight sets to hold. The other ones are packed from the master again once they are required. */
export function chooseHeldSets<Name>(
  { required, optional }: NeededSets<Name>,
  { budgetBytes, bytesOf }: SetMemory<Name>,
): { held: Name[]; unheld: Name[] } {
  const held = [...required]
  const unheld: Name[] = []
  let freeBytes = required.reduce((free, name) => free - bytesOf(name), budgetBytes)
  for (const name of optional) {
    const fits = bytesOf(name) <= freeBytes
    if (fits) freeBytes -= bytesOf(name)
    const sets = fits ? held : unheld
    sets.push(name)
  }
  return { held, unheld }
}
