import type { Command } from 'commander'
import { benchTelemetry } from '../engine/telemetry-cost.ts'
import { addStreamsOptions, measureStreams, type StreamsOptions } from './streams-options.ts'
import type { Workbench } from './workbench.ts'

/** Adds the benchmark of what telemetry costs streams. */
export function addTelemetry(program: Command, bench: Workbench): void {
  const command = program
    .command('telemetry')
    .description('what streams of the sparse engine lose to all telemetry, with and without in turn')
  addStreamsOptions(command).action((options: StreamsOptions) =>
    measureStreams(options, bench, benchTelemetry),
  )
}
