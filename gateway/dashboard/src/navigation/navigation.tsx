/** The address of the page that is shown, on the history API. */
import { createContext, type ComponentChildren } from 'preact'
import { useCallback, useContext, useEffect, useMemo, useState } from 'preact/hooks'
import { hrefOf, pathBelow } from './routes.ts'

/** The current address, and functions that change it. */
export interface Navigation {
  /** Path below the dashboard, starting with `/`. */
  path: string
  query: URLSearchParams
  /** Number of navigations since loading. */
  moves: number
  /** Goes to a path below the dashboard. */
  go: (to: string) => void
  /** Sets query parameters of this page without adding to the history; null removes one. */
  setQuery: (changes: Readonly<Record<string, string | null>>) => void
  /** The address of a path below the dashboard, which keeps the model that is chosen. */
  href: (to: string) => string
}

const NavigationContext = createContext<Navigation | undefined>(undefined)

/** Provides {@link useNavigation} to its children. */
export function NavigationProvider({ children }: { children: ComponentChildren }) {
  const [address, setAddress] = useState(currentAddress)
  const [moves, setMoves] = useState(0)
  useEffect(() => {
    const update = () => {
      setAddress(currentAddress())
      setMoves((count) => count + 1)
    }
    addEventListener('popstate', update)
    return () => removeEventListener('popstate', update)
  }, [])
  const href = useCallback(
    (to: string) => hrefOf(to, { model: new URLSearchParams(address.search).get('model') }),
    [address.search],
  )
  const navigation = useMemo<Navigation>(() => {
    const query = new URLSearchParams(address.search)
    return {
      path: pathBelow(address.pathname),
      query,
      moves,
      href,
      go: (to) => {
        history.pushState(null, '', href(to))
        setAddress(currentAddress())
        setMoves((count) => count + 1)
        scrollTo(0, 0)
      },
      setQuery: (changes) => {
        const next = new URLSearchParams(location.search)
        for (const [name, value] of Object.entries(changes)) {
          if (value === null) next.delete(name)
          else next.set(name, value)
        }
        const search = next.size > 0 ? `?${next.toString()}` : ''
        history.replaceState(null, '', `${location.pathname}${search}`)
        setAddress(currentAddress())
      },
    }
  }, [address, moves, href])
  return <NavigationContext.Provider value={navigation}>{children}</NavigationContext.Provider>
}

/** The current address, and functions that change it. */
export function useNavigation(): Navigation {
  const navigation = useContext(NavigationContext)
  if (!navigation) throw new Error('useNavigation is called outside of NavigationProvider.')
  return navigation
}

/** The model that the address names; `undefined` while none is chosen, which the server allows for a single model. */
export function useModel(): string | undefined {
  return useNavigation().query.get('model') ?? undefined
}

function currentAddress(): { pathname: string; search: string } {
  return { pathname: location.pathname, search: location.search }
}
