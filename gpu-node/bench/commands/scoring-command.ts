import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { Form } from '../engine/engine-contender.ts'
import { benchScoring } from '../engine/scoring.ts'
import { magnitudeHalfMask } from '../models/magnitude-mask.ts'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { count, counts, forms, FORMS_HELP, openBenchModel, positive, type Workbench } from './workbench.ts'

interface ScoringOptions {
  precision: Form[]
  streams: number[]
  rounds: number
  seconds: number
  share: number
}

/** Adds the benchmark of what scoring costs streams. */
export function addScoring(program: Command, { home, print, printAll }: Workbench): void {
  program
    .command('scoring')
    .description('what streams of the sparse engine lose to the scoring of texts, with and without in turn')
    .option('--precision <precisions>', FORMS_HELP, forms, ['bf16'])
    .option('--streams <numbers>', 'concurrent streams', counts, [1, 8])
    .option('--rounds <n>', 'rounds of each', count, 8)
    .option('--seconds <s>', 'length of a round', positive, 5)
    .option('--share <share>', 'share of scoring', positive, 0.05)
    .action(async ({ precision, streams, rounds, seconds, share }: ScoringOptions) => {
      const model = await openBenchModel()
      const maskPath = join(home, 'mask.safetensors')
      writeFileSync(maskPath, await magnitudeHalfMask(model))
      await buildNative(print)
      for (const form of precision) {
        for (const concurrent of streams) {
          print(`\n${form}`)
          const options = { rounds, roundMs: 1000 * seconds, scoringShare: share }
          printAll(await benchScoring({ model, maskPath, form, streams: concurrent, ...options }))
        }
      }
    })
}
