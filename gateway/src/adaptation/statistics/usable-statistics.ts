import type { DatasetRef, StatisticsRef } from '@copal/shared/wire/adaptation-jobs.ts'

/**
 * Returns the artifacts that sum only datasets of a job. A node may fetch them instead of calibrating; artifacts with other
 * datasets, such as those of a roll-back, cannot be separated.
 */
export function usableStatistics(
  stored: readonly StatisticsRef[],
  wanted: readonly DatasetRef[],
): StatisticsRef[] {
  const hashes = new Set(wanted.map(({ sha256 }) => sha256))
  return stored.filter(({ datasets }) => datasets.every((dataset) => hashes.has(dataset)))
}
