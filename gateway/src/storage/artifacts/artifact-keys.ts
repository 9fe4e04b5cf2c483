/** Returns the R2 key of a dataset. */
export function datasetKey(hash: string): string {
  return `datasets/${hash}`
}

/** Returns the R2 key of a mask. */
export function maskKey(hash: string): string {
  return `masks/${hash}`
}

/** Prefix of the R2 keys of classifiers. */
export const CLASSIFIER_PREFIX = 'classifiers/'

/** Returns the R2 key of a classifier of domains. */
export function classifierKey(hash: string): string {
  return `${CLASSIFIER_PREFIX}${hash}`
}

/** Prefix of the R2 keys of the embeddings of background texts. */
export const BACKGROUND_PREFIX = 'backgrounds/'

/** Returns the R2 key of the embeddings of a version of the background texts under the dense weights of a model. */
export function backgroundKey(baseSha256: string, version: string): string {
  return `${BACKGROUND_PREFIX}${baseSha256}-${version}`
}

/** Prefix of the R2 keys of statistics artifacts. */
export const STATISTICS_PREFIX = 'statistics/'

/** Returns the R2 key of a file of a statistics artifact, or the prefix of all its files. */
export function statisticsKey(artifact: string, file = ''): string {
  return `${STATISTICS_PREFIX}${artifact}/${file}`
}

/** Prefix of the R2 keys of mask file parts that are not joined yet. */
export const MASK_PART_PREFIX = 'mask-parts/'

/** Returns the R2 key of one part of a mask file. */
export function maskPartKey(hash: string, part: string): string {
  return `${MASK_PART_PREFIX}${hash}/${part}`
}
