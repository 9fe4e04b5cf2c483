import type { Command } from 'commander'
import { benchTelemetry } from '../engine/telemetry-cost.ts'
import { addStreamsOptions, measureStreams, type StreamsOptions } from './streams-options.ts'
import { positive, type Workbench } from './workbench.ts'

/** Adds the benchmark of what telemetry costs streams. */
export function addTelemetry(program: Command, bench: Workbench): void {
  const command = program
    .command('telemetry')
    .description('what streams of the sparse engine lose to all telemetry, with and without in turn')
  addStreamsOptions(command)
    .option('--push <s>', 'time between two pushes of metrics', positive, 60)
    .action(({ push, ...options }: StreamsOptions & { push: number }) =>
      measureStreams(options, bench, (load) => benchTelemetry(load, 1000 * push)),
    )
}
