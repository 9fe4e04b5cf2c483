/** The fields of a reported weight set that tell whether it could be loaded. */
interface ReportedSet {
  version: number
  state: string
  error?: string | null | undefined
}

/** Returns the weight set of a version if its node could not load it, also while the node tries again. */
export function failedToLoad<T extends ReportedSet>(sets: readonly T[], version: number): T | undefined {
  return sets.find(
    (set) => set.version === version && (set.state === 'failed' || typeof set.error === 'string'),
  )
}
