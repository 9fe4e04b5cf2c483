/** The session of the reader. The key becomes a cookie that scripts cannot read. */
import { createContext, type ComponentChildren } from 'preact'
import { useCallback, useContext, useEffect, useMemo, useRef, useState } from 'preact/hooks'
import type { SessionEntry } from '@copal/shared/wire/admin-session.ts'
import { createClient, endpoint, toApiError, type ApiError, type Client } from '../data/client.ts'

const SESSION_PATH = '/dashboard/session'

/** State of the sign-in; `checking` before it is known. */
export type SessionState =
  | { state: 'checking' }
  | { state: 'signed-out'; reason?: string }
  | { state: 'signed-in'; session: SessionEntry }

interface SessionValue {
  current: SessionState
  client: Client
  /** Signs in by a key. @throws ApiError */
  signIn: (key: string) => Promise<void>
  signOut: () => Promise<void>
}

const SessionContext = createContext<SessionValue | undefined>(undefined)

/** Provides {@link useSession} to its children; takes the code of a one-time link from the address. */
export function SessionProvider({ children }: { children: ComponentChildren }) {
  const [current, setCurrent] = useState<SessionState>({ state: 'checking' })
  const csrf = useRef<string>(undefined)
  const enter = useCallback((session: SessionEntry) => {
    csrf.current = session.csrf
    setCurrent({ state: 'signed-in', session })
  }, [])
  const client = useMemo(
    () =>
      createClient({
        fetch: (path, init) => fetch(path, init),
        csrf: () => csrf.current,
        onSignedOut: () =>
          setCurrent((before) =>
            before.state === 'signed-in'
              ? { state: 'signed-out', reason: 'Your session has ended. Sign in again.' }
              : before,
          ),
      }),
    [],
  )
  useEffect(() => {
    const open = (code: string | undefined) => {
      const opened = code
        ? client.send<SessionEntry>('POST', SESSION_PATH, { code })
        : client.get(endpoint<SessionEntry | null>(SESSION_PATH))
      opened.then(
        (session) => (session ? enter(session) : setCurrent({ state: 'signed-out' })),
        (cause: unknown) => setCurrent(signedOut(toApiError(cause), code !== undefined)),
      )
    }
    // A link that is opened in a tab of the dashboard changes only the fragment.
    const openLink = () => {
      const code = takeCode()
      if (code !== undefined) open(code)
    }
    open(takeCode())
    addEventListener('hashchange', openLink)
    return () => removeEventListener('hashchange', openLink)
  }, [client, enter])
  const value = useMemo<SessionValue>(
    () => ({
      current,
      client,
      signIn: async (key) => enter(await client.send<SessionEntry>('POST', SESSION_PATH, { key })),
      signOut: async () => {
        await client.send('DELETE', SESSION_PATH)
        csrf.current = undefined
        setCurrent({ state: 'signed-out', reason: 'You are signed out.' })
      },
    }),
    [current, client, enter],
  )
  return <SessionContext.Provider value={value}>{children}</SessionContext.Provider>
}

/** State of the sign-in, and functions that change it. */
export function useSessionState(): SessionValue {
  const value = useContext(SessionContext)
  if (!value) throw new Error('The session is used outside of SessionProvider.')
  return value
}

/** The current session. Only pages behind the sign-in call it. */
export function useSession(): SessionEntry {
  const { current } = useSessionState()
  if (current.state !== 'signed-in') throw new Error('Nobody is signed in.')
  return current.session
}

/** The state after a failed sign-in, with advice. */
function signedOut(error: ApiError, byLink: boolean): SessionState {
  if (byLink && error.status === 401)
    return {
      state: 'signed-out',
      reason:
        'This link does not sign in any more: it works once, within five minutes. Use a key, or make another link.',
    }
  return error.status === 401 ? { state: 'signed-out' } : { state: 'signed-out', reason: error.message }
}

/** Takes the code of a one-time link out of the address, so that neither history nor a copied address has it. */
function takeCode(): string | undefined {
  const code = new URLSearchParams(location.hash.slice(1)).get('code')
  if (code === null) return undefined
  history.replaceState(null, '', location.pathname + location.search)
  return code === '' ? undefined : code
}
