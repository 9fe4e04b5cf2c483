import { Component, type ComponentChildren } from 'preact'
import { Empty } from '../components/notices.tsx'
import { Page } from '../components/page.tsx'
import { Link } from '../navigation/link.tsx'
import { useNavigation } from '../navigation/navigation.tsx'
import { matchRoute } from '../navigation/routes.ts'
import { useSession } from '../session/session.tsx'
import { NAVIGATION, ROUTES } from './routes.tsx'

/** The page of the address. */
export function Outlet() {
  const { path } = useNavigation()
  const { role } = useSession()
  if (path === '/' && role === 'tenant') {
    const first = ROUTES.find(({ pattern }) => pattern === firstPathOf(role))
    if (first) return <first.page params={{}} />
  }
  for (const { pattern, page: PageOf } of ROUTES) {
    const params = matchRoute(pattern, path)
    if (params)
      return (
        <Boundary key={path}>
          <PageOf params={params} />
        </Boundary>
      )
  }
  return (
    <Page title="Not found">
      <Empty title="There is no page at this address.">
        <p>
          <Link to="/">Go to the overview</Link>
        </p>
      </Empty>
    </Page>
  )
}

/** The first page that a role may see. */
function firstPathOf(role: (typeof NAVIGATION)[number]['roles'][number]): string {
  return NAVIGATION.find(({ roles }) => roles.includes(role))?.to ?? '/'
}

/** Keeps a page that fails to render from taking the navigation with it. */
class Boundary extends Component<{ children: ComponentChildren }, { error?: Error }> {
  static override getDerivedStateFromError(error: Error) {
    return { error }
  }

  override render() {
    const { error } = this.state
    if (!error) return this.props.children
    return (
      <Page title="This page failed">
        <Empty title="The dashboard could not draw this page.">
          <p class="soft">{error.message}</p>
          <p>
            <button type="button" class="button" onClick={() => location.reload()}>
              Reload
            </button>
          </p>
        </Empty>
      </Page>
    )
  }
}
