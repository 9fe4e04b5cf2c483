import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { Form } from '../engine/engine-contender.ts'
import type { StreamsLoad } from '../engine/streams-load.ts'
import { magnitudeHalfMask } from '../models/magnitude-mask.ts'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { count, counts, forms, FORMS_HELP, openBenchModel, positive, type Workbench } from './workbench.ts'

/** Options of a benchmark of streams, as the command line gives them. */
export interface StreamsOptions {
  precision: Form[]
  streams: number[]
  rounds: number
  seconds: number
}

/** Adds the options of {@link StreamsOptions} to a command. */
export function addStreamsOptions(command: Command): Command {
  return command
    .option('--precision <precisions>', FORMS_HELP, forms, ['bf16'])
    .option('--streams <numbers>', 'concurrent streams', counts, [1, 8])
    .option('--rounds <n>', 'rounds of each', count, 8)
    .option('--seconds <s>', 'length of a round', positive, 5)
}

/** Measures every precision with every number of streams, under a mask that prunes half of the weights. */
export async function measureStreams(
  { precision, streams, rounds, seconds }: StreamsOptions,
  { home, print, printAll }: Workbench,
  measure: (load: StreamsLoad) => Promise<string[]>,
): Promise<void> {
  const model = await openBenchModel()
  const maskPath = join(home, 'mask.safetensors')
  writeFileSync(maskPath, await magnitudeHalfMask(model))
  await buildNative(print)
  for (const form of precision) {
    for (const concurrent of streams) {
      print(`\n${form}`)
      const load = { model, maskPath, form, streams: concurrent, rounds, roundMs: 1000 * seconds }
      printAll(await measure(load))
    }
  }
}
