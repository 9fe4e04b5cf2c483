import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { Form } from '../engine/engine-contender.ts'
import { benchTelemetry } from '../engine/telemetry-cost.ts'
import { magnitudeHalfMask } from '../models/magnitude-mask.ts'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { count, counts, forms, FORMS_HELP, openBenchModel, positive, type Workbench } from './workbench.ts'

interface TelemetryOptions {
  precision: Form[]
  streams: number[]
  rounds: number
  seconds: number
}

/** Adds the benchmark of what telemetry costs streams. */
export function addTelemetry(program: Command, { home, print, printAll }: Workbench): void {
  program
    .command('telemetry')
    .description('what streams of the sparse engine lose to all telemetry, with and without in turn')
    .option('--precision <precisions>', FORMS_HELP, forms, ['bf16'])
    .option('--streams <numbers>', 'concurrent streams', counts, [1, 8])
    .option('--rounds <n>', 'rounds of each', count, 8)
    .option('--seconds <s>', 'length of a round', positive, 5)
    .action(async ({ precision, streams, rounds, seconds }: TelemetryOptions) => {
      const model = await openBenchModel()
      const maskPath = join(home, 'mask.safetensors')
      writeFileSync(maskPath, await magnitudeHalfMask(model))
      await buildNative(print)
      for (const form of precision) {
        for (const concurrent of streams) {
          print(`\n${form}`)
          const options = { rounds, roundMs: 1000 * seconds }
          printAll(await benchTelemetry({ model, maskPath, form, streams: concurrent, ...options }))
        }
      }
    })
}
