import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { benchDrafts, DRAFT_TASKS } from '../engine/drafts.ts'
import { addStreamsOptions, measureStreams, type StreamsOptions } from './streams-options.ts'
import type { Workbench } from './workbench.ts'

/** Adds the benchmark of drafts. */
export function addDrafts(program: Command, bench: Workbench): void {
  const command = program
    .command('drafts')
    .description('what streams of the sparse engine gain by drafts, with and without in turn')
    .requiredOption('--text <file>', 'text from which the prompts are taken')
  addStreamsOptions(command).action(async ({ text, ...options }: StreamsOptions & { text: string }) => {
    const content = readFileSync(text, 'utf8')
    for (const task of DRAFT_TASKS)
      await measureStreams(options, bench, (load) => benchDrafts({ ...load, task, text: content }))
  })
}
