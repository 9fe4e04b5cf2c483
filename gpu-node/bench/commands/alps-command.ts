import type { Command } from 'commander'
import type { MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { benchJointSolver } from '../pruning/joint-solver.ts'
import { findStatistics } from '@copal/lab/run/find-statistics.ts'
import { indices, list, openBenchModel, someOf, type Workbench } from './workbench.ts'

interface AlpsOptions {
  statistics: string
  pattern: string[]
  layers: number[]
  scope: MaskScope[]
}

export function addAlps(program: Command, { threads, print, printAll }: Workbench): void {
  program
    .command('alps')
    .description('the output error that the joint solver ALPS leaves, by that of swaps and reconstruction')
    .requiredOption('--statistics <folder>', 'of a laboratory, or the home of a service')
    .option('--pattern <patterns>', 'one or more', list, ['0.5', '0.6', '0.7', '2:4'])
    .option('--layers <indices>', 'blocks', indices, [0, 7, 15, 22, 29])
    .option('--scope <scopes>', "of ALPS: 'row', 'matrix' or both", someOf(['row', 'matrix']), ['row'])
    .action(async ({ statistics, pattern, layers, scope }: AlpsOptions) => {
      const model = await openBenchModel()
      const { artifacts, domains } = await findStatistics(statistics, model, null)
      print(`${model.id}, statistics of ${domains.join(', ')}`)
      const sizes = { layers, scopes: scope, patterns: pattern, threads }
      printAll(await benchJointSolver(model, artifacts, sizes))
    })
}
