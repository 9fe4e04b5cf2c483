import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { SelectField } from '../components/fields.tsx'
import { useToast } from '../components/toast.tsx'
import { toApiError } from '../data/client.ts'
import { useResource, useOldestStale } from '../data/data.tsx'
import { status } from '../data/endpoints.ts'
import { formatDuration } from '../format/numbers.ts'
import { Link } from '../navigation/link.tsx'
import { useModel, useNavigation } from '../navigation/navigation.tsx'
import { useSession, useSessionState } from '../session/session.tsx'
import { chooseTheme, readTheme, type Theme } from '../theme/theme.ts'
import { NAVIGATION } from './routes.tsx'

/** The frame of every page: navigation, model, theme and session. */
export function Shell({ children }: { children: ComponentChildren }) {
  const { path } = useNavigation()
  const { role } = useSession()
  const [isMenuOpen, setMenuOpen] = useState(false)
  const menuButton = useRef<HTMLButtonElement>(null)
  useEffect(() => setMenuOpen(false), [path])
  const closeMenu = (event: KeyboardEvent) => {
    if (event.key !== 'Escape' || !isMenuOpen) return
    setMenuOpen(false)
    menuButton.current?.focus()
  }
  return (
    <>
      <a class="skip" href="#content">
        Skip to the content
      </a>
      <header class="bar" onKeyDown={closeMenu}>
        <Link to="/" class="brand">
          copal
        </Link>
        <button
          ref={menuButton}
          type="button"
          class="button menu-button"
          aria-expanded={isMenuOpen}
          aria-controls="navigation"
          onClick={() => setMenuOpen(!isMenuOpen)}
        >
          Menu
        </button>
        <nav id="navigation" aria-label="Pages" class={isMenuOpen ? 'nav nav-open' : 'nav'}>
          <ul>
            {NAVIGATION.filter(({ roles }) => roles.includes(role)).map(({ to, title }) => (
              <li key={to}>
                <Link to={to} current={to === '/' ? path === '/' : path === to || path.startsWith(`${to}/`)}>
                  {title}
                </Link>
              </li>
            ))}
          </ul>
          <div class="bar-end">
            {role !== 'tenant' && <ModelChoice />}
            <ThemeButton />
            <SignOut />
          </div>
        </nav>
      </header>
      <main id="content" class="page" tabIndex={-1}>
        {children}
      </main>
      <Stale />
    </>
  )
}

/** Says since when nothing new came, and why, while the last numbers stay visible. */
function Stale() {
  const stale = useOldestStale()
  return (
    <p class={stale ? 'stale stale-shown' : 'stale'} role="status">
      {stale && (
        <>
          <span aria-hidden="true">▲</span> No data for{' '}
          <span aria-live="off">{formatDuration((Date.now() - stale.sinceMs) / 1000)}</span>. {stale.reason}{' '}
          Trying again.
        </>
      )}
    </p>
  )
}

/** The choice of the model, where there are several. */
function ModelChoice() {
  const { setQuery } = useNavigation()
  const model = useModel()
  const { value } = useResource(status(), 60_000)
  const models = value?.models.map(({ id }) => id) ?? []
  const [first] = models
  // The gateway answers about one model; of several it must be told which.
  const isOpen = model === undefined && models.length > 1
  useEffect(() => {
    if (isOpen && first !== undefined) setQuery({ model: first })
  }, [isOpen, first, setQuery])
  if (models.length < 2) return null
  return (
    <SelectField
      label="Model"
      hidesLabel
      value={model ?? first ?? ''}
      options={models.map((id) => ({ value: id, label: id }))}
      onChange={(id) => setQuery({ model: id })}
    />
  )
}

const NEXT_THEME: Readonly<Record<Theme, Theme>> = { system: 'light', light: 'dark', dark: 'system' }
const THEME_NAMES: Readonly<Record<Theme, string>> = { system: 'Auto', light: 'Light', dark: 'Dark' }

/** Switches between the theme of the system, light and dark. */
function ThemeButton() {
  const [theme, setTheme] = useState<Theme>(readTheme)
  return (
    <button
      type="button"
      class="quiet"
      aria-label={`Theme: ${THEME_NAMES[theme]}. Switch to ${THEME_NAMES[NEXT_THEME[theme]]}.`}
      title={`Theme: ${THEME_NAMES[theme]}`}
      onClick={() => {
        const next = NEXT_THEME[theme]
        chooseTheme(next)
        setTheme(next)
      }}
    >
      <span aria-hidden="true">◐</span> {THEME_NAMES[theme]}
    </button>
  )
}

function SignOut() {
  const { signOut } = useSessionState()
  const { name, role } = useSession()
  const toast = useToast()
  return (
    <>
      <span
        class="soft who"
        title={role === 'observer' ? 'This key may read everything and change nothing.' : undefined}
      >
        {name}
        {role === 'observer' ? ', read only' : ''}
      </span>
      <button
        type="button"
        class="quiet"
        onClick={() => {
          signOut().catch((cause: unknown) => toast(toApiError(cause).message, 'harm'))
        }}
      >
        Sign out
      </button>
    </>
  )
}
