import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import type { Contender } from './engine-contender.ts'

/** Names of llama.cpp's quantisations. */
export type LlamaQuantisation = 'BF16' | 'Q8_0' | 'Q6_K' | 'Q5_K_M' | 'Q4_K_M' | 'Q4_0' | 'Q3_K_M' | 'Q2_K'

/** A model loaded by llama.cpp. */
export interface LlamaContender extends Contender {
  /** The features it was built with and found: `AVX512 = 1 | …`. */
  about: string
  /** Returns the negative log-likelihoods, in nats, of all tokens of a window but the first. */
  loss: (window: Int32Array) => Promise<number[]>
}

/** llama.cpp in a separate process. */
export interface LlamaCpp {
  /** Writes a GGUF file in another precision; the source may be quantised already. */
  quantise: (from: string, to: string, kind: LlamaQuantisation) => Promise<void>
  /** @param sequences maximum number of concurrent sequences, of `tokens` tokens each */
  load: (
    name: string,
    path: string,
    threads: number,
    sequences: number,
    tokens: number,
  ) => Promise<LlamaContender>
  close: () => Promise<void>
}

const loaded = z.object({ id: z.int(), bytes: z.int(), about: z.string() })

/**
 * Starts the driver in a Python that has the package `llama-cpp-python`.
 *
 * @throws Error with its output when the process ends before it has responded
 */
export function startLlamaCpp(python: string): LlamaCpp {
  const driver = join(import.meta.dirname, 'llama-cpp-driver.py')
  const child = spawn(python, [driver], { stdio: ['pipe', 'pipe', 'pipe'] })
  let output = ''
  child.stderr.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-2000)))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const failed = once(child, 'error').then(([error]) => {
    throw new Error(`${python} did not start`, { cause: error })
  })
  // Only calls in flight report the failure.
  failed.catch(() => undefined)

  async function ask<T>(schema: z.ZodType<T>, name: string, ...args: unknown[]): Promise<T> {
    child.stdin.write(`${JSON.stringify({ name, arguments: args })}\n`)
    const answer = await Promise.race([lines.next(), failed])
    if (answer.done) throw new Error(`llama.cpp ended during ${name}:\n${output}`)
    return schema.parse(JSON.parse(answer.value))
  }
  return {
    async quantise(from, to, kind) {
      await ask(z.boolean(), 'quantise', from, to, kind)
    },
    async load(name, path, threads, sequences, tokens) {
      const { id, bytes, about } = await ask(loaded, 'load', path, threads, sequences, tokens)
      return {
        name,
        about,
        megabytes: bytes / 1e6,
        decode: async (count, context, steps) =>
          (count * steps) / (await ask(z.number(), 'decode', id, count, context, steps)),
        prefill: async (length) => length / (await ask(z.number(), 'prefill', id, length)),
        loss: (window) => ask(z.array(z.number()), 'loss', id, [...window]),
        close: () => Promise.resolve(),
      }
    },
    async close() {
      child.stdin.end()
      if (child.exitCode === null) await once(child, 'exit')
    },
  }
}
