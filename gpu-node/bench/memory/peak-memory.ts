import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { LlamaConfig } from '@copal/gpu-node/model/config/llama-config.ts'
import { writeWordsDataset } from '../../../test/support/calibration-datasets.ts'
import { writeLargeLlama } from './large-llama.ts'
import type { PeakMemory, PeakMemoryRequest } from './peak-memory-child.ts'

const PROGRAM = fileURLToPath(new URL('./peak-memory-child.ts', import.meta.url))

/** Writes a model under `dir` and measures opening, calibrating `samples` × `length` tokens and selecting. */
export async function measurePeakMemory(
  dir: string,
  config: LlamaConfig,
  { samples, length, threads, method }: { samples: number; length: number; threads: number; method: string },
): Promise<PeakMemory> {
  const spec = join(dir, 'model')
  await writeLargeLlama(spec, config)
  const dataset = await writeWordsDataset(dir, 'sea', 1, Math.ceil((samples * length) / 40))
  const child = fork(PROGRAM, [], { serialization: 'advanced', execArgv: [] })
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
      selection: { method, pattern: '0.5', scope: 'row' },
      parentMaskPath: null,
      created: '2026-11-25T00:00:00.000Z',
      workDir: join(dir, 'masks'),
      statisticsDir: join(dir, 'statistics'),
    },
  } satisfies PeakMemoryRequest)
  const ended = once(child, 'exit').then(() => {
    throw new Error('the measured process ended before it was done')
  })
  const [peaks] = (await Promise.race([once(child, 'message'), ended])) as [PeakMemory]
  return peaks
}
