import { createHash } from 'node:crypto'
import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { writeAtomically } from '@copal/gpu-node/platform/atomic-file.ts'
import { layerErrorsSchema, evaluationSchema, timingMachineSchema } from '../results/lab-results.ts'
import { makeFolder } from '@copal/gpu-node/platform/make-folder.ts'

/**
 * Version of the records and of evaluation. Raise it when their meaning changes: everything that older runs found is
 * then computed again. Masks of one rule or refinement have revisions of their own (`methods/method-registry.ts`).
 */
const FORMAT_VERSION = 1

/** The machine on which `seconds` was measured; records of older versions lack it. */
const timingFields = { ranOn: timingMachineSchema.optional() }

const maskRecord = z.object({
  ...timingFields,
  sha256: z.string(),
  bytes: z.number(),
  sparsity: z.number(),
  seconds: z.number(),
  layerErrors: layerErrorsSchema.nullable(),
  /** Part of the mask file, so that selecting the same mask again gives the same bytes. */
  created: z.string(),
})
/** The cached record of a mask. */
export type CachedMask = z.output<typeof maskRecord>

const evaluationRecord = evaluationSchema.extend({ ...timingFields, seconds: z.number() })
/** The cached evaluation of one mask, or of the dense model, on one text. */
export type CachedEvaluation = z.output<typeof evaluationRecord>

const calibrationRecord = z.object({ ...timingFields, seconds: z.number(), tokens: z.number() })
/** The cached cost of one domain's calibration. */
export type CachedCalibration = z.output<typeof calibrationRecord>

const churnRecord = z.object({ churn: z.number() })

/** Seconds per unit of work, measured by earlier runs; estimates of the next run use them. */
const rates = z.object({
  /** Per token calibrated. */
  calibrateToken: z.number().nullable(),
  evaluateToken: z.number().nullable(),
  /** Per mask selected, by method. */
  select: z.record(z.string(), z.number()),
})
/** Measured rates of work on one machine, in seconds. */
export type Rates = z.output<typeof rates>

const noRates = (): Rates => ({ calibrateToken: null, evaluateToken: null, select: {} })

/** A folder of small JSON files, each written atomically and named by a hash of everything its content depends on. */
interface RecordStore<T> {
  get(identity: readonly unknown[]): Promise<T | undefined>
  put(identity: readonly unknown[], value: T): Promise<void>
}

/** The content-addressed cache of a laboratory: statistics, masks, evaluations. */
export interface LabCache {
  statisticsDir: string
  /** Folder for statistics of pruned propagation, which are kept only until the masks that need them are selected. */
  prunedStatisticsDir(identity: readonly unknown[]): string
  /** Removes all statistics of pruned propagation, also those of earlier runs. */
  discardPrunedStatistics(): Promise<void>
  masksDir: string
  masks: RecordStore<CachedMask>
  evaluations: RecordStore<CachedEvaluation>
  calibrations: RecordStore<CachedCalibration>
  churns: RecordStore<z.output<typeof churnRecord>>
  rates: {
    get(machine: readonly unknown[]): Promise<Rates>
    put(machine: readonly unknown[], rates: Rates): Promise<void>
  }
  maskPath(sha256: string): string
  /** Tells whether the mask's file exists with the recorded size. */
  hasMaskFile(mask: CachedMask): Promise<boolean>
}

/**
 * Opens the cache in a laboratory's locked folder. Creates missing folders and removes unfinished masks of a killed
 * process.
 */
export async function openLabCache(dir: string): Promise<LabCache> {
  const masksDir = join(dir, 'masks')
  const statisticsDir = join(dir, 'statistics')
  const prunedDir = join(dir, 'statistics-pruned')
  makeFolder(masksDir)
  for (const name of await readdir(masksDir)) {
    if (name.endsWith('.partial')) await rm(join(masksDir, name))
  }
  const maskPath = (sha256: string) => join(masksDir, `${sha256}.safetensors`)
  const found = recordsIn(join(dir, 'rates'), rates)
  return {
    statisticsDir,
    prunedStatisticsDir: (identity) => join(prunedDir, hashOf(identity)),
    discardPrunedStatistics: () => rm(prunedDir, { recursive: true, force: true }),
    masksDir,
    masks: recordsIn(join(dir, 'selections'), maskRecord),
    evaluations: recordsIn(join(dir, 'evaluations'), evaluationRecord),
    calibrations: recordsIn(join(dir, 'calibrations'), calibrationRecord),
    churns: recordsIn(join(dir, 'churn'), churnRecord),
    rates: {
      get: async (machine) => (await found.get(machine)) ?? noRates(),
      put: (machine, value) => found.put(machine, value),
    },
    maskPath,
    async hasMaskFile({ sha256, bytes }) {
      return (await stat(maskPath(sha256)).catch(() => undefined))?.size === bytes
    },
  }
}

function recordsIn<T>(dir: string, schema: z.ZodType<T>): RecordStore<T> {
  const pathOf = (identity: readonly unknown[]) => join(dir, `${hashOf(identity)}.json`)
  return {
    async get(identity) {
      try {
        return schema.parse(JSON.parse(await readFile(pathOf(identity), 'utf8')))
      } catch {
        // Missing or damaged: computed again.
        return undefined
      }
    },
    async put(identity, value) {
      await writeAtomically(pathOf(identity), JSON.stringify(value))
    },
  }
}

function hashOf(identity: readonly unknown[]): string {
  return createHash('sha256')
    .update(JSON.stringify([FORMAT_VERSION, ...identity]))
    .digest('hex')
}
