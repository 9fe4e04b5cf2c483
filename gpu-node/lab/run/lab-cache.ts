import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { writeAtomically } from '@copal/gpu-node/platform/content-store.ts'
import { layerErrorsSchema, evaluationSchema, timingMachineSchema } from '../results/lab-results.ts'

/**
 * Raised when what records hold, or evaluation, changes its meaning: everything that older runs found is then done again. For
 * the masks of one rule or refinement there are revisions (`methods/registry.ts`).
 */
const FORMAT_VERSION = 1

/** What seconds are of; records of older versions do not say. */
const timingFields = { ranOn: timingMachineSchema.optional() }

const maskRecord = z.object({
  ...timingFields,
  sha256: z.string(),
  bytes: z.number(),
  sparsity: z.number(),
  seconds: z.number(),
  layerErrors: layerErrorsSchema.nullable(),
  /** Goes into the mask file: the same mask selected again has the same bytes. */
  created: z.string(),
})
/** What is remembered of a mask. */
export type CachedMask = z.output<typeof maskRecord>

const evaluationRecord = evaluationSchema.extend({ ...timingFields, seconds: z.number() })
/** What is remembered of one mask, or dense, on one text. */
export type CachedEvaluation = z.output<typeof evaluationRecord>

const calibrationRecord = z.object({ ...timingFields, seconds: z.number(), tokens: z.number() })
export type CachedCalibration = z.output<typeof calibrationRecord>

const churnRecord = z.object({ churn: z.number() })

/** Seconds that work has taken so far, with which the next run is estimated. */
const rates = z.object({
  /** One token through the model, with its statistics. */
  calibrateToken: z.number().nullable(),
  evaluateToken: z.number().nullable(),
  /** A whole mask, by method. */
  select: z.record(z.string(), z.number()),
})
export type Rates = z.output<typeof rates>

const noRates = (): Rates => ({ calibrateToken: null, evaluateToken: null, select: {} })

/** Small files, each written whole or not at all, named by a hash over what their content depends on. */
interface RecordStore<T> {
  get(identity: readonly unknown[]): Promise<T | undefined>
  put(identity: readonly unknown[], value: T): Promise<void>
}

/** Everything that a laboratory has found, by content: statistics, masks, evaluations. */
export interface LabCache {
  statisticsDir: string
  /** Statistics that depend on what is named, which are kept until the masks are there. */
  prunedStatisticsDir(identity: readonly unknown[]): string
  /** Removes all of these, whoever left them. */
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
  /** Whether the file of a mask is there, by its size. */
  hasMaskFile(mask: CachedMask): Promise<boolean>
}

/**
 * Opens the cache of a laboratory folder, which is locked: makes what is missing, and removes the masks that a killed
 * process left unfinished.
 */
export async function openLabCache(dir: string): Promise<LabCache> {
  const masksDir = join(dir, 'masks')
  const statisticsDir = join(dir, 'statistics')
  const prunedDir = join(dir, 'statistics-pruned')
  await mkdir(masksDir, { recursive: true })
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
        // Missing or damaged: it is found out again.
        return undefined
      }
    },
    async put(identity, value) {
      await writeAtomically(pathOf(identity), async function* () {
        yield Buffer.from(JSON.stringify(value))
      })
    },
  }
}

function hashOf(identity: readonly unknown[]): string {
  return createHash('sha256')
    .update(JSON.stringify([FORMAT_VERSION, ...identity]))
    .digest('hex')
}
