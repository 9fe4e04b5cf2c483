import type { UpdateEntry } from '@copal/shared/wire/admin.ts'

/** Returns kind, verdict and mask of each decision of an update. */
export const verdictsOf = ({ decisions = [] }: UpdateEntry) =>
  decisions.map(({ kind, verdict, mask_version: mask }) => [kind, verdict, mask])
