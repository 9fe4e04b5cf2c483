import { fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { PatternRules } from '@copal/shared/wire/selection.ts'
import type { LlamaConfig } from '@copal/gpu-node/model/config/llama-config.ts'
import type { DatasetFile } from '@copal/gpu-node/pruning/runs/calibration-task.ts'
import { WORDS } from '../models/words.ts'
import { randomBits } from '../models/random-bits.ts'
import { writeLargeLlama } from './large-llama.ts'
import type { PeakMemory, PeakMemoryRequest } from './peak-memory-child.ts'

const PROGRAM = fileURLToPath(new URL('./peak-memory-child.ts', import.meta.url))

/** The work to measure. */
export interface PeakMemoryOptions {
  samples: number
  length: number
  threads: number
  method: string
  /** Patterns of single linears. Half of the weights of the others are pruned. */
  patterns?: PatternRules | undefined
}

/**
 * Writes a model under `dir`, and measures opening it, calibrating `samples` × `length` tokens, and selecting a mask.
 *
 * @param flags of Node for the measured process
 */
export async function measurePeakMemory(
  dir: string,
  config: LlamaConfig,
  { samples, length, threads, method, patterns }: PeakMemoryOptions,
  flags: readonly string[] = [],
): Promise<PeakMemory> {
  const spec = join(dir, 'model')
  await writeLargeLlama(spec, config)
  const dataset = await writeWords(dir, samples * length)
  const child = fork(PROGRAM, [], { serialization: 'advanced', execArgv: [...flags] })
  child.send({
    spec,
    cacheDir: join(dir, 'cache'),
    threads,
    task: {
      datasets: [dataset],
      accumulated: [],
      samples,
      length,
      seed: 1,
      selection: { method, pattern: '0.5', scope: 'row', patterns },
      parentMaskPath: null,
      created: '2026-11-25T00:00:00.000Z',
      workDir: join(dir, 'masks'),
      statisticsDir: join(dir, 'statistics'),
    },
  } satisfies PeakMemoryRequest)
  const ended = once(child, 'exit').then(() => {
    throw new Error('the measured process ended early')
  })
  const [peaks] = (await Promise.race([once(child, 'message'), ended])) as [PeakMemory]
  return peaks
}

const WORDS_PER_TEXT = 40

/** Writes a dataset file of seeded texts that has at least `tokens` words. */
async function writeWords(dir: string, tokens: number): Promise<DatasetFile> {
  const draw = randomBits(1)
  const word = () => WORDS[(draw() >>> 0) % WORDS.length]
  const text = () => Array.from({ length: WORDS_PER_TEXT }, word).join(' ')
  const texts = Array.from({ length: Math.ceil(tokens / WORDS_PER_TEXT) }, text)
  const bytes = Buffer.from(texts.map((each) => `${JSON.stringify({ text: each })}\n`).join(''))
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const path = join(dir, `${sha256}.ndjson`)
  await writeFile(path, bytes)
  return { path, sha256, domain: 'words' }
}
