import OpenAI from 'openai'
import { readConnection } from '../../../gpu-node/cli/api/connection.ts'
import { session } from './demo-session.ts'

/**
 * Creates a client of the public API.
 *
 * @param apiKey by default the one that `npm start` made
 */
export function demoClient(apiKey?: string): OpenAI {
  const connection = readConnection(session.terminal)
  return new OpenAI({
    baseURL: `${connection.origin}/v1`,
    apiKey: apiKey ?? connection.apiKey ?? '',
    maxRetries: 2,
  })
}
