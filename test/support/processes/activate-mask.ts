import { vi } from 'vitest'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { LONG_WAIT } from '../harness/wait.ts'

/**
 * Activates an imported mask in a service without held-out text: the gate can prove nothing there, so it is forced.
 *
 * @param updateId the update that the import has started; undefined if the mask was active before
 */
export async function activateUnproven(
  admin: <T>(method: string, path: string, body?: unknown) => Promise<T>,
  updateId: string | undefined,
): Promise<void> {
  if (updateId === undefined) return
  const path = `/admin/updates/${updateId}`
  const ended = () =>
    vi.waitFor(async () => {
      const update = await admin<UpdateEntry>('GET', path)
      if (update.finished_at === null)
        throw new Error(`update ${updateId} is ${update.state}: ${update.message}`)
      return update
    }, LONG_WAIT)
  const judged = await ended()
  if (judged.error?.code === 'gate_failed') {
    await admin('POST', `${path}/force`, { reason: 'a random mask of a test' })
    const forced = await ended()
    if (forced.state === 'promoted') return
    throw new Error(`the mask was not promoted: ${JSON.stringify(forced)}`)
  }
  if (judged.state !== 'promoted') throw new Error(`the mask was not promoted: ${JSON.stringify(judged)}`)
}
