import { InvalidArgumentError, type Command } from 'commander'
import { AppError } from '@copal/shared/errors.ts'
import { line } from '../measurement/report.ts'
import { parseMethod } from '@copal/gpu-node/pruning/methods/method-registry.ts'
import { largeConfig } from '../memory/large-llama.ts'
import { measurePeakMemory } from '../memory/peak-memory.ts'
import { count, type Workbench } from './workbench.ts'

interface MemoryOptions {
  hidden: number
  blocks: number
  samples: number
  length: number
  method: string
}

/** Parses the name of a method that calibrates; the others have nothing to measure. */
function calibratingMethod(name: string): string {
  if (datasetsOf(name) !== 'none') return name
  throw new InvalidArgumentError(`'${name}' reads no text, so it has no calibration to measure.`)
}

function datasetsOf(name: string) {
  try {
    return parseMethod(name).datasets
  } catch (error) {
    if (error instanceof AppError) throw new InvalidArgumentError(error.message)
    throw error
  }
}

/** Adds the benchmark of peak memory during calibration and selection. */
export function addMemory(program: Command, { home, threads, print }: Workbench): void {
  program
    .command('memory')
    .description(
      "peak memory of calibrating and selecting blocks of the 7B model's shape (8 GB of disk, minutes)",
    )
    .option('--hidden <n>', 'hidden size, a multiple of 128', count, 4096)
    .option('--blocks <n>', 'number of blocks', count, 3)
    .option('--samples <n>', 'calibration sequences', count, 2)
    .option('--length <n>', 'tokens per sequence', count, 64)
    .option(
      '--method <name>',
      'pruning method; with swaps it takes a minute per block',
      calibratingMethod,
      'copal',
    )
    .action(async ({ hidden, blocks, samples, length, method }: MemoryOptions) => {
      const config = largeConfig(hidden, blocks)
      const peaks = await measurePeakMemory(home, config, { samples, length, threads, method })
      const { hiddenSize, intermediateSize, layers } = config
      print(
        `hidden ${hiddenSize}, intermediate ${intermediateSize}, ${layers} blocks, ${samples} × ${length} tokens, ${method}`,
      )
      for (const phase of ['open', 'calibrate', 'select'] as const) {
        const megabytes = (peaks[`${phase}Bytes`] / 1e6).toFixed(0)
        print(line(`peak memory, ${phase}`, `${megabytes} MB in ${peaks.seconds[phase].toFixed(0)} s`))
      }
    })
}
