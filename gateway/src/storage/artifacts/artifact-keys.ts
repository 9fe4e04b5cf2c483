/** Where a dataset lies in R2. */
export function datasetKey(hash: string): string {
  return `datasets/${hash}`
}

/** Where a mask lies in R2. */
export function maskKey(hash: string): string {
  return `masks/${hash}`
}

/** Where the parts of mask files lie in R2 until they are joined. */
export const MASK_PART_PREFIX = 'mask-parts/'

/** Where one part of a mask file lies in R2. */
export function maskPartKey(hash: string, part: string): string {
  return `${MASK_PART_PREFIX}${hash}/${part}`
}
