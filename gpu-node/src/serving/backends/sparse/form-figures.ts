import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import type { Addon, Precision, StoredForm } from '../../../../native/addon.d.ts'
import { readIfThere, writeAtomically } from '../../../platform/atomic-file.ts'
import { processorName } from '../../../platform/processor-name.ts'
import { reasonOf, type Log } from '../../../platform/log.ts'
import {
  BLOCK_LINEARS,
  linearShape,
  linearShapes,
  type LlamaConfig,
} from '../../../model/config/llama-config.ts'
import {
  formSpeed,
  isCertain,
  isSettled,
  MAX_ROUNDS,
  MIN_ROUNDS,
  narrower,
  speedOf,
  type FormTimes,
} from './form-speed.ts'
import type { MaskPlaces } from './mask-locations.ts'

const figures = z.object({
  /** Tokens of a step; ascending. */
  counts: z.array(formSpeed).min(1),
  prefill: formSpeed,
})

/** A file of the cache folder. */
const storedFigures = z.object({ measuredAt: z.iso.datetime(), figures })

/** Speeds of packed weights relative to dense ones, of the linears alone. */
export type FormFigures = z.output<typeof figures>

/** The weights and settings for which figures hold, on one machine. */
export interface FormSubject {
  config: LlamaConfig
  precision: Precision
  /** The kernel that multiplies. */
  kernel: string
  threads: number
  kept: KeptPattern
}

/** Which weights of its pruned linears a mask keeps. */
export interface KeptPattern {
  /** Weights of the linears that it prunes. */
  weights: number
  /** Share of them that it keeps. */
  share: number
  /** Kept weights of every group of columns, if all linears have the same groups. */
  group: { columns: number; kept: number } | null
}

/** Returns the figures of a subject, from the cache folder or by measuring. */
export interface FormMeter {
  /**
   * Figures that other work on the machine made uncertain are measured again by a later call, at most once in ten
   * minutes. Of two speeds the one with the narrower interval stays, so that a choice does not change with the noise.
   *
   * @param run runs one piece of the measurement, some milliseconds, while no step runs; null only reads the cache
   * @returns null when there are none: nothing was measured, or the measurement failed
   */
  figures(
    subject: FormSubject,
    run: (<T>(piece: () => Promise<T>) => Promise<T>) | null,
  ): Promise<FormFigures | null>
}

/** Numbers of tokens that are measured, as streams that decode together, or beside a piece of a prompt. */
const COUNTS = [1, 2, 4, 8, 16, 32]
/** As many tokens as the engine passes through the blocks together. */
const PREFILL_TOKENS = 256
const FORMS: readonly StoredForm[] = ['packed', 'dense']
/** Figures that are uncertain are not measured again before they are this old. */
const REPEAT_AFTER_MS = 10 * 60_000
/** A sample is as large as the model, up to this: reading it takes a few milliseconds, and few caches hold it. */
const MAX_SAMPLE_BYTES = 256 << 20

/** Creates a meter that keeps its figures in `<cacheDir>/forms`, one file for each machine, model and pattern. */
export function createFormMeter({
  addon,
  cacheDir,
  log,
  nowMs = Date.now,
}: {
  addon: Pick<Addon, 'createFormSample' | 'sourceHash'>
  cacheDir: string
  log?: Pick<Log, 'info'> | undefined
  nowMs?: () => number
}): FormMeter {
  const measuring = new Map<string, Promise<FormFigures | null>>()
  const folder = join(cacheDir, 'forms')

  return {
    async figures(subject, run) {
      const key = keyOf(subject, addon.sourceHash())
      const path = join(folder, `${createHash('sha256').update(key).digest('hex').slice(0, 32)}.json`)
      const known = await readFigures(path)
      if (run === null || (known && isGoodEnough(known))) return known?.figures ?? null
      let measured = measuring.get(path)
      if (!measured) {
        measured = measureAndKeep(subject, run, path, key, known?.figures ?? null).finally(() =>
          measuring.delete(path),
        )
        measuring.set(path, measured)
      }
      return measured
    },
  }

  function isGoodEnough({ measuredAt, figures: { counts, prefill } }: StoredFigures): boolean {
    return [...counts, prefill].every(isCertain) || nowMs() - Date.parse(measuredAt) < REPEAT_AFTER_MS
  }

  async function measureAndKeep(
    subject: FormSubject,
    run: <T>(piece: () => Promise<T>) => Promise<T>,
    path: string,
    key: string,
    known: FormFigures | null,
  ): Promise<FormFigures | null> {
    const startedMs = performance.now()
    try {
      const found = moreCertain(known, await measureForms(addon, subject, run))
      log?.info('form of pruned weights measured', { ms: Math.round(performance.now() - startedMs) })
      // Without a writable cache the next start measures again.
      await writeFigures(path, key, found, nowMs()).catch(() => undefined)
      return found
    } catch (error) {
      log?.info('the form of pruned weights cannot be measured', { reason: reasonOf(error) })
      return known
    }
  }
}

/**
 * Measures packed against dense weights on a made-up sample of the model's shapes, in rounds: each measures both forms at
 * every number of tokens, one after the other. There are 7 rounds, and up to 21 at the numbers of tokens at which they
 * lie apart.
 */
export async function measureForms(
  addon: Pick<Addon, 'createFormSample'>,
  { config, precision, kernel, threads, kept }: FormSubject,
  run: <T>(piece: () => Promise<T>) => Promise<T>,
): Promise<FormFigures> {
  const sample = await addon.createFormSample({
    kernel,
    threads,
    precision,
    shapes: BLOCK_LINEARS.map((linear) => {
      const [rows, cols] = linearShape(config, linear)
      return { rows, cols }
    }),
    layers: Math.max(1, Math.round((config.layers * kept.weights) / weightsOf(config))),
    keptShare: kept.share,
    group: kept.group,
    maxTokens: PREFILL_TOKENS,
    maxBytes: MAX_SAMPLE_BYTES,
  })
  try {
    const rounds = new Map<number, FormTimes[]>([...COUNTS, PREFILL_TOKENS].map((tokens) => [tokens, []]))
    const isEnough = (tokens: number, times: readonly FormTimes[]) =>
      times.length >= MAX_ROUNDS || (times.length >= MIN_ROUNDS && isSettled(speedOf(tokens, times)))
    for (let round = 0; round < MAX_ROUNDS; round++) {
      // The order alternates, so that a machine that slows down favours neither.
      const order = FORMS.toSorted((a, b) => (round % 2 ? 1 : -1) * a.localeCompare(b))
      for (const [tokens, times] of rounds) {
        if (isEnough(tokens, times)) continue
        const seconds: FormTimes = { packed: Number.NaN, dense: Number.NaN }
        for (const form of order) seconds[form] = await run(() => sample.time(form, tokens))
        times.push(seconds)
      }
    }
    const figureOf = (tokens: number) => speedOf(tokens, rounds.get(tokens) ?? [])
    return { counts: COUNTS.map(figureOf), prefill: figureOf(PREFILL_TOKENS) }
  } finally {
    sample.free()
  }
}

/** Returns what a mask keeps of the linears that it prunes, at least one. */
export function keptPattern(places: MaskPlaces, config: LlamaConfig): KeptPattern {
  const shapes = linearShapes(config)
  let weights = 0
  let kept = 0
  const groups = new Set<string>()
  for (const [name, { rule }] of places) {
    const [rows, cols] = shapes.get(name) ?? [0, 0]
    weights += rows * cols
    if (rule.per === 'group') kept += (rows * cols * rule.kept) / rule.columns
    else kept += rule.per === 'row' ? rows * rule.kept : rule.kept
    groups.add(rule.per === 'group' ? `${rule.kept}:${rule.columns}` : '')
  }
  const [group = ''] = groups
  const [groupKept, columns] = groups.size === 1 && group !== '' ? group.split(':').map(Number) : []
  return {
    weights,
    share: kept / weights,
    group: groupKept !== undefined && columns !== undefined ? { columns, kept: groupKept } : null,
  }
}

function weightsOf(config: LlamaConfig): number {
  return [...linearShapes(config).values()].reduce((sum, [rows, cols]) => sum + rows * cols, 0)
}

/** Names what figures hold for. Masks whose shares differ by less than a per cent have the same figures. */
function keyOf({ config, precision, kernel, threads, kept }: FormSubject, kernels: string): string {
  return JSON.stringify({
    processor: processorName(),
    threads,
    kernel,
    kernels,
    precision,
    shapes: BLOCK_LINEARS.map((linear) => linearShape(config, linear)),
    layers: config.layers,
    kept: kept.group ?? kept.share.toFixed(2),
    prunedLinears: (kept.weights / weightsOf(config)).toFixed(1),
  })
}

/** Returns for every number of tokens the speed that is more certain; `found` where nothing was known. */
function moreCertain(known: FormFigures | null, found: FormFigures): FormFigures {
  if (!known || known.counts.length !== found.counts.length) return found
  return {
    counts: found.counts.map((speed, index) => narrower(known.counts[index] ?? speed, speed)),
    prefill: narrower(known.prefill, found.prefill),
  }
}

type StoredFigures = z.output<typeof storedFigures>

/** A damaged file is as good as none: it is measured again. */
async function readFigures(path: string): Promise<StoredFigures | null> {
  try {
    const stored = storedFigures.safeParse(JSON.parse((await readIfThere(path)) ?? 'null'))
    return stored.success ? stored.data : null
  } catch {
    return null
  }
}

async function writeFigures(path: string, key: string, found: FormFigures, nowMs: number): Promise<void> {
  const measuredAt = new Date(nowMs).toISOString()
  const stored = { subject: JSON.parse(key) as unknown, measuredAt, figures: found }
  await writeAtomically(path, `${JSON.stringify(stored, null, 2)}\n`)
}
