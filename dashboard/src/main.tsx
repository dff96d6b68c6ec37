// Where the page begins: theme before the first paint, live data, then the first view.
import "./style/base.css";
import "./style/parts.css";
import "./style/pages.css";
import { render } from "preact";
import { App } from "./app";
import { followAccount } from "./lib/live";
import { followNotifications } from "./lib/notify";
import { takeLinks } from "./lib/router";
import { followTheme } from "./lib/theme";

followTheme();
takeLinks();
followAccount();
followNotifications();
render(<App />, document.getElementById("app")!);
