"""The plugins that come with vaccel. Each loads only when it is named."""
