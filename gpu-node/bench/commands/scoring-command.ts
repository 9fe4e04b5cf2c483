import type { Command } from 'commander'
import { benchScoring } from '../engine/scoring.ts'
import { addStreamsOptions, measureStreams, type StreamsOptions } from './streams-options.ts'
import { positive, type Workbench } from './workbench.ts'

/** Adds the benchmark of what scoring costs streams. */
export function addScoring(program: Command, bench: Workbench): void {
  const command = program
    .command('scoring')
    .description('what streams of the sparse engine lose to the scoring of texts, with and without in turn')
  addStreamsOptions(command)
    .option('--share <share>', 'share of scoring', positive, 0.05)
    .action(({ share, ...options }: StreamsOptions & { share: number }) =>
      measureStreams(options, bench, (load) => benchScoring({ ...load, scoringShare: share })),
    )
}
