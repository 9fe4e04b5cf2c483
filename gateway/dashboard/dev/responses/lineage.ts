/** The masks of the invented service and the updates that made them. */
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'

/** `[version, parent, state]` of the update that made it. */
export const LINEAGE: readonly (readonly [number, number | null, UpdateEntry['state']])[] = [
  [1, null, 'promoted'],
  [2, 1, 'promoted'],
  [3, 2, 'failed'],
  [4, 2, 'promoted'],
  [5, 4, 'promoted'],
  [6, 5, 'rolled_back'],
  [7, 5, 'failed'],
  [8, 5, 'promoted'],
  [9, 8, 'promoted'],
  [10, 9, 'failed'],
  [11, 9, 'promoted'],
  [12, 11, 'rolled_back'],
  [13, 11, 'promoted'],
  [14, 13, 'promoted'],
  [15, 14, 'canary'],
]
/** Domains that masks were chosen for. */
export const LEARNED = [['speech'], ['code'], ['support', 'speech'], ['legal'], ['medical-notes', 'code']]

/** Minutes since a mask was made. */
export const ageOf = (version: number) => (15 - version) * 640 + 40
