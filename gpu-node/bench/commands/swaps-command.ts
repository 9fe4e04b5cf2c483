import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { Form } from '../engine/engine-contender.ts'
import { magnitudeHalfMask } from '../models/magnitude-mask.ts'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { describeSwapGaps, measureSwapGaps, type SwapFigures } from '../engine/swap-gaps.ts'
import { machineLine } from '../measurement/report.ts'
import { count, forms, FORMS_HELP, openBenchModel, type Workbench } from './workbench.ts'

interface SwapsOptions {
  precision: Form[]
  streams: number
  swaps: number
  runs: number
}

/** Adds the benchmark of token gaps while masks are swapped. */
export function addSwaps(program: Command, { home, print, printAll }: Workbench): void {
  program
    .command('swaps')
    .description('how long streams of the sparse engine wait for tokens while masks are swapped')
    .option('--precision <precisions>', FORMS_HELP, forms, ['bf16'])
    .option('--streams <n>', 'concurrent streams', count, 4)
    .option('--swaps <n>', 'consecutive swaps of a run', count, 5)
    .option('--runs <n>', 'runs of each precision, in turn', count, 1)
    .action(async ({ precision, streams, swaps, runs }: SwapsOptions) => {
      const model = await openBenchModel()
      const maskPath = join(home, 'mask.safetensors')
      writeFileSync(maskPath, await magnitudeHalfMask(model))
      await buildNative(print)
      const found = new Map<Form, SwapFigures[]>(precision.map((form) => [form, []]))
      for (let run = 0; run < runs; run++) {
        for (const [form, figures] of found)
          figures.push(await measureSwapGaps({ model, maskPath, form, streams, swaps, pauseMs: 2000 }))
      }
      print(machineLine())
      for (const [form, figures] of found) {
        print(`\n${form}`)
        printAll(describeSwapGaps(figures, streams))
      }
    })
}
