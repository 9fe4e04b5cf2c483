import { resolve } from 'node:path'
import type { Command } from 'commander'
import { startLlamaCpp, type LlamaCpp } from './llama-cpp.ts'

/** What {@link addLlamaOptions} adds. */
export interface LlamaOptions {
  llama?: string
  gguf?: string
}

/** Gives a command the options that let llama.cpp run beside ours. */
export function addLlamaOptions(command: Command): Command {
  return command
    .option(
      '--llama <python>',
      'a Python that has llama-cpp-python, built for this machine (docs/results/front): llama.cpp is measured too',
    )
    .option('--gguf <file>', "the model's file for llama.cpp")
}

/**
 * llama.cpp where the options name a Python that has it and the model's GGUF file; null where they name neither.
 *
 * @throws Error where only one is named
 */
export function openLlama({ llama, gguf }: LlamaOptions): { cpp: LlamaCpp; ggufPath: string } | null {
  if (llama === undefined && gguf === undefined) return null
  if (llama === undefined || gguf === undefined) {
    throw new Error(
      '--llama names a Python with the package llama-cpp-python, and --gguf a file of the same model; give both',
    )
  }
  return { cpp: startLlamaCpp(llama), ggufPath: resolve(gguf) }
}
