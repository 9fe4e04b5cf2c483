import { setTimeout as sleep } from 'node:timers/promises'
import type OpenAI from 'openai'

/** The output of one stream until it ended or failed. */
export interface StreamedResponse {
  prompt: string
  text: string
  fingerprints: string[]
  error?: unknown
}

/**
 * Keeps `concurrency` greedy streams of `model` running until it is stopped.
 *
 * @param pauseMs between the end of a stream and the start of the next one
 */
export function streamLoad(client: OpenAI, model: string, concurrency: number, pauseMs = 0) {
  let running = true
  const answers: StreamedResponse[] = []
  const one = async (index: number) => {
    for (let round = 0; running; round++) {
      const prompt = `Chapter ${index * 100 + round}. It was`
      const fingerprints = new Set<string>()
      let text = ''
      try {
        const stream = await client.completions.create({
          model,
          prompt,
          max_tokens: 48,
          temperature: 0,
          stream: true,
        })
        for await (const chunk of stream) {
          text += chunk.choices[0]?.text ?? ''
          if (chunk.system_fingerprint) fingerprints.add(chunk.system_fingerprint)
        }
        answers.push({ prompt, text, fingerprints: [...fingerprints] })
      } catch (error) {
        answers.push({ prompt, text, fingerprints: [...fingerprints], error })
      }
      if (running) await sleep(pauseMs)
    }
  }
  const all = Promise.all(Array.from({ length: concurrency }, (_, index) => one(index)))
  return {
    /** The streams that ended. */
    answers,
    async stop() {
      running = false
      await all
      return answers
    },
  }
}
