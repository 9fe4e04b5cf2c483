import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { useClient } from '../../data/data.tsx'
import { useNavigation } from '../../navigation/navigation.tsx'
import { paths } from '../../navigation/routes.ts'

/** A function that starts an update of domains and goes to its page. It throws `ApiError`. */
export function useStartUpdate(model: string | undefined): (domains: readonly string[]) => Promise<void> {
  const { send, refresh } = useClient()
  const { go } = useNavigation()
  return async (domains) => {
    const body = { domains, ...(model === undefined ? {} : { model }) }
    const update = await send<UpdateEntry>('POST', '/admin/updates', body)
    refresh('/admin/updates', '/admin/triggers', '/admin/overview')
    go(paths.update(update.id))
  }
}
