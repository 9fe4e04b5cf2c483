import type { Command } from 'commander'
import { benchKernels, WORKLOAD_NAMES, type WorkloadName } from '../engine/kernels.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { count, counts, KERNELS_HELP, list, someOf, type Workbench } from './workbench.ts'

interface KernelsOptions {
  only: WorkloadName[]
  kernels: string[]
  tokens: number[]
  repetitions: number
  threads: number
}

/** Adds the benchmark of the native kernels. */
export function addKernels(program: Command, { threads, print }: Workbench): void {
  program
    .command('kernels')
    .description('native kernels, dense and half pruned')
    .option('--only <workloads>', `any of ${WORKLOAD_NAMES.join(', ')}`, someOf(WORKLOAD_NAMES), [
      ...WORKLOAD_NAMES,
    ])
    .option('--kernels <names>', KERNELS_HELP, list, [])
    .option('--tokens <numbers>', 'numbers of tokens at a time', counts, [1, 8])
    .option('--repetitions <n>', 'number of interleaved repetitions', count, 15)
    .option('--threads <n>', 'number of threads', count, threads)
    .action(async (options: KernelsOptions) => {
      await buildNative(print)
      await benchKernels(loadNative(), {
        workloads: options.only,
        kernels: options.kernels,
        batches: options.tokens,
        repetitions: options.repetitions,
        threads: options.threads,
        print,
      })
    })
}
