import type { CreatedKey, CreateKey } from '@copal/shared/wire/admin-keys.ts'
import { adminJson } from '../doubles/simulated-node.ts'
import { post } from './gateway-requests.ts'

/** Creates a key with limits. */
export const createLimitedKey = (
  limits: CreateKey['limits'],
  fields: Partial<CreateKey> = {},
): Promise<CreatedKey> => adminJson('POST', '/keys', { name: 'limited', limits, ...fields })

/** Sends a completion that reserves a hundred tokens. */
export const ask = (key: string, fields: object = {}): Promise<Response> =>
  post(key, '/v1/completions', { model: 'tiny', prompt: 'x'.repeat(40), max_tokens: 90, ...fields })

/** Returns the statuses of several responses in ascending order. */
export const sortedStatuses = async (calls: Promise<Response>[]): Promise<number[]> =>
  (await Promise.all(calls)).map(({ status }) => status).toSorted((a, b) => a - b)
