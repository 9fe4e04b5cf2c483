import { resolve } from 'node:path'
import type { Command } from 'commander'
import { startLlamaCpp, type LlamaCpp } from './llama-cpp.ts'

/** Options that {@link addLlamaOptions} adds. */
export interface LlamaOptions {
  llama?: string
  gguf?: string
}

/** Adds the options that also measure llama.cpp. */
export function addLlamaOptions(command: Command): Command {
  return command
    .option(
      '--llama <python>',
      'also measure llama.cpp, with a Python that has llama-cpp-python built for this machine (docs/results/front)',
    )
    .option('--gguf <file>', "the model's file for llama.cpp")
}

/**
 * Starts llama.cpp when the options name its Python and the model's GGUF file.
 *
 * @returns null when they name neither
 * @throws Error when they name only one
 */
export function openLlama({ llama, gguf }: LlamaOptions): { cpp: LlamaCpp; ggufPath: string } | null {
  if (llama === undefined && gguf === undefined) return null
  if (llama === undefined || gguf === undefined) {
    throw new Error(
      '--llama (a Python with llama-cpp-python) and --gguf (a file of the same model) must be given together',
    )
  }
  return { cpp: startLlamaCpp(llama), ggufPath: resolve(gguf) }
}
